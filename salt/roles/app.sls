include:
  - nginx
  - supervisor
  - app
