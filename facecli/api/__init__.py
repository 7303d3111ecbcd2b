"""What `import facecli` offers: whole tasks as functions with defaults, and results as frozen dataclasses."""
