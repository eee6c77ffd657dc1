#!yaml
include:
  - certificates
  - postgres
