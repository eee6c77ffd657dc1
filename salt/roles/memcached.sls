include:
  - certificates
  - memcached
