supervisor-package:
  pkg.installed:
    - name: supervisor
