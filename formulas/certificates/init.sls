certificates-directory:
  file.directory:
    - name: /etc/ssl/saltern
    - user: root
    - group: root
    - mode: '0755'

# Read anew by whoever connects.
certificates-authorities:
  certificate.authorities:
    - name: /etc/ssl/saltern/ca.pem
    - require:
      - file: certificates-directory
