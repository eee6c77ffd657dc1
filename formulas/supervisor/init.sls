#!yaml
include:
  - supervisor.install
  - supervisor.config
  - supervisor.service
