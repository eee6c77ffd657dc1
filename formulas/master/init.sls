#!yaml
include:
  - master.service
