{% set apps = salt['settings.load']('app') %}
{% set jobs = apps.values() | map(attribute='jobs') | select | list %}

include:
  - app.launcher
  - app.alone
  - app.release

{% if jobs %}
# A run with a schedule that this host's systemd does not take ends here, before anything is touched.
app-jobs-judged:
  job.judged:
    - name: the schedules of jobs
    - order: first
    - failhard: True

# What the runner imports, beside the leases. Debian's own Python runs it.
app-job-modules:
  file.recurse:
    - name: /usr/local/lib/saltern/jobs
    - source: salt://_utils/saltern/jobs
    - clean: True
    - exclude_pat: __pycache__*
    - user: root
    - group: root
    - dir_mode: '0755'
    - file_mode: '0644'

{% for name in ('journal', 'masking', 'terminal') %}
app-job-{{ name }}:
  file.managed:
    - name: /usr/local/lib/saltern/system/{{ name }}.py
    - source: salt://_utils/saltern/system/{{ name }}.py
    - makedirs: True
    - mode: '0644'
    - require_in:
      - file: app-job-runner
{% endfor %}

app-job-runner:
  file.managed:
    - name: /usr/local/lib/saltern/job
    - source: salt://app/files/job.py
    - mode: '0755'
    - require:
      - file: app-job-modules
      - file: app-leases-settings
      - file: app-process
{% endif %}

app-jobs-retired:
  job.retired:
    - name: jobs
    - require:
      - app: app-retired

{% for app in apps | sort %}
{% for job in apps[app].jobs | sort %}
app-job-{{ app }}.{{ job }}:
  job.scheduled:
    - name: saltern-job-{{ app }}.{{ job }}.timer
    - app: {{ app }}
    - job: {{ job }}
    - require:
      - job: app-jobs-retired
      - file: app-job-runner
      - release: app-release-{{ app }}
{% endfor %}
{% endfor %}
