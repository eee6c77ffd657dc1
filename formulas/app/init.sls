#!yaml
include:
  - app.install
  - app.bus
  - app.release
