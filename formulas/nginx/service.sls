nginx-service:
  unit.running:
    - name: nginx
    - package: nginx
    - require:
      - pkg: nginx-package
