{% set apps = salt['settings.load']('app') %}

include:
  - nginx.service
  - supervisor.service
  - certificates
  - app.install

# Early, since to start it takes it as long as the states before a release take.
app-contracts-begun:
  contract.begun:
    - name: /usr/local/lib/saltern/contract
    - apps: {{ apps | sort | tojson }}
    - order: 1

{% set awaited = salt['app.awaited'](apps) %}
{% if awaited %}
# What takes the place of an app that is gone may be refused, and then that one goes on.
app-replaceable:
  test.nop:
    - name: what takes the place of an app
    - require: {{ awaited | tojson }}
    - require_in:
      - nginx_tree: nginx-config
      - app: app-retired
{% if 'cache' in pillar.hosts[opts.id].roles %}
      - redis_instance: redis-replaced
{% endif %}
{% endif %}

# First: another app may be given its ports.
app-retired:
  app.retired:
    - name: /srv/apps
    - apps: {{ apps | sort | tojson }}
    - require:
      - service_config: supervisor-loaded

app-limits-retired:
  app_limits.retired:
    - name: limits of apps
    - apps: {{ apps | sort | tojson }}
    - require:
      - app: app-retired

{% for app in apps | sort %}
app-build-{{ app }}:
  build.unpacked:
    - name: {{ app }}
{% if salt['build.is_first'](app) and not opts.test %}
    # After the packages, which keep the machine busy, and beside what else a new host is given.
    - order: 2
    - parallel: True
{% endif %}
    - require:
      - file: app-directory-{{ app }}

app-limits-{{ app }}:
  app_limits.enforced:
    - name: {{ app }}
    - require:
      - app_limits: app-limits-retired

app-release-{{ app }}:
  release.current:
    - name: {{ app }}
    - require:
      - build: app-build-{{ app }}
      - file: app-process
      - file: app-contract
      - app_limits: app-limits-{{ app }}
      - certificate: certificates-authorities
      - service_config: supervisor-loaded
      - unit: nginx-service
{% for requisite in salt['attachment.requisites'](app) %}
      - {{ requisite | tojson }}
{% endfor %}
{% endfor %}
