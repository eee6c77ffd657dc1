#!yaml
include:
  - mail
