#!yaml
include:
  - certificates
  - nginx
  - supervisor
  - app
