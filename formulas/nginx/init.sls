#!yaml
include:
  - nginx.install
  - nginx.certificates
  - nginx.config
  - nginx.service
  - nginx.http3
  - nginx.acme
  - nginx.peers
