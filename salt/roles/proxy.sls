#!yaml
include:
  - certificates
  - nginx
