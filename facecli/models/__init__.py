"""The networks facecli knows, one file per family; `registry` maps names to their input contracts."""
