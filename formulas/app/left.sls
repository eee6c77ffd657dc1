{% set left = salt['attachment.left']() %}
{% set leases = salt['app.leases']() %}

include:
  - app.release

{% for kind in left %}
# What no app attaches any more is closed also where the formula is gone with the role. After the apps: a process ends
# before what it attaches.
app-left-{{ kind }}:
  resource.done:
    - name: {{ kind }}
    - kind: {{ kind }}
    - step: retired
    - order: last
{% endfor %}

{% if not leases.get('etcd') and salt['file.file_exists']('/etc/ssl/saltern/etcd-client.pem') %}
# After the releases: the launcher of a process that is alone has it until the process has ended.
app-etcd-certificate-retired:
  file.absent:
    - name: /etc/ssl/saltern/etcd-client.pem
    - require:
      - sls: app.release
{% endif %}
