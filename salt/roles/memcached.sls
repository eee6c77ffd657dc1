#!yaml
include:
  - certificates
  - memcached
