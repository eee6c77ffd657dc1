include:
  - app.install
  - app.release
