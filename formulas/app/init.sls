#!yaml
include:
  - app.install
  - app.release
