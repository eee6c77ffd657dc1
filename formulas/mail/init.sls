#!yaml
include:
  - mail.install
  - mail.config
  - mail.service
