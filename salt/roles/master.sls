#!yaml
include:
  - master
