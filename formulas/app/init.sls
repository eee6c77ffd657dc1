#!yaml
include:
  - app.install
  - app.packages
  - app.bus
  - app.release
