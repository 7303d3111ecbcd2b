"""The command line: options in, one library call, records out."""
