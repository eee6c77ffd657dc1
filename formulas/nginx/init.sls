#!yaml
include:
  - nginx.install
  - nginx.certificates
  - nginx.config
  - nginx.service
  - nginx.acme
  - nginx.peers
