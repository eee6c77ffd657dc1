#!yaml
include:
  - storage
