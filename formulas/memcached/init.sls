#!yaml
include:
  - memcached.install
  - memcached.config
  - memcached.service
