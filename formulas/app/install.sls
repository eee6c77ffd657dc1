{% set apps = salt['settings.load']('app') %}

include:
  - app.launcher

# Users and directories come first, so that a new host unpacks its builds beside what is slow.
app-directory:
  file.directory:
    - name: /srv/apps
    - mode: '0755'
    - order: 2

# systemd removes files that were not used for 10 days.
app-tmp:
  file.managed:
    - name: /etc/tmpfiles.d/saltern-apps.conf
    - contents: |
        # Managed by Saltern (formula app): what apps leave in their TMPDIR goes by its age.
        e /srv/apps/*/tmp - - - 10d
    - mode: '0644'

{% for name in ('terminal', 'contract') %}
app-{{ name }}:
  file.managed:
    - name: /usr/local/lib/saltern/{{ name }}
    - source: salt://app/files/{{ name }}.py
    - mode: '0755'
    - makedirs: True

{% endfor %}

{% for app in apps | sort %}
app-name-{{ app }}:
  app_user.free:
    - name: {{ app }}
    - home: /srv/apps/{{ app }}
    - order: 2

app-user-{{ app }}:
  user.present:
    - require:
      - app_user: app-name-{{ app }}
    - name: {{ app }}
    - system: True
    - usergroup: True
    - home: /srv/apps/{{ app }}
    - createhome: False
    - shell: /usr/sbin/nologin
    - order: 2
    # The bus has no policy for a user that it does not know yet.
    - require_in:
      - file: app-dbus

app-directory-{{ app }}:
  file.directory:
    - name: /srv/apps/{{ app }}
    - user: root
    - group: {{ app }}
    - mode: '0750'
    - order: 2
    - require:
      - file: app-directory
      - user: app-user-{{ app }}

{% for name in ('home', 'tmp') %}
app-{{ name }}-{{ app }}:
  file.directory:
    - name: /srv/apps/{{ app }}/{{ name }}
    - user: {{ app }}
    - group: {{ app }}
    - mode: '0700'
    - order: 2
    - require:
      - file: app-directory-{{ app }}
{% endfor %}
{% endfor %}
