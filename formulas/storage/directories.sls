{% set storage = salt['settings.load']('storage') %}

{% if storage.directories %}
# The users to whom the directories belong.
include:
  - app.install
{% endif %}

storage-root:
  file.directory:
    - name: /srv/storage
    - user: root
    - group: root
    - mode: '0755'

{% for name, directory in storage.directories | dictsort %}
storage-directory-{{ name }}:
  resource.done:
    - name: {{ name }}
    - kind: storage
    - step: directory
    - require:
      - file: storage-root
      - user: app-user-{{ directory.owner }}
{% endfor %}

# Closed after the apps: a process ends before what it attaches.
storage-retired:
  resource.done:
    - name: storage
    - kind: storage
    - step: retired
    - order: last
    - require:
      - file: storage-root
