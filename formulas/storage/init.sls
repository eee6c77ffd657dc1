#!yaml
include:
  - storage.directories
