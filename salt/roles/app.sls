include:
  - certificates
  - nginx
  - supervisor
  - app
