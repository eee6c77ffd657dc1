include:
  - certificates
  - nginx
