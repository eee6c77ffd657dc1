#!yaml
include:
  - drift.install
  - drift.service
