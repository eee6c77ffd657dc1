include:
  - storage.directories
