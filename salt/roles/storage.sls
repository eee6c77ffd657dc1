include:
  - storage
