nginx-package:
  pkg.installed:
    - name: nginx
