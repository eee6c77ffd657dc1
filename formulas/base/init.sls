#!yaml
include:
  - base.install
  - base.config
  - base.service
