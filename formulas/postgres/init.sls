#!yaml
include:
  - postgres.install
  - postgres.config
  - postgres.service
