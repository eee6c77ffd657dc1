#!yaml
include:
  - certificates
  - etcd
