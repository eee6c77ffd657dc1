include:
  - certificates
  - postgres
