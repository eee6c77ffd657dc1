#!yaml
# Placed before whatever calls the launcher, because a process may start at any time.
app-launcher:
  file.recurse:
    - name: /usr/local/lib/saltern/launcher
    - source: salt://app/files/launcher
    - clean: True
    - exclude_pat: __pycache__*
    - user: root
    - group: root
    - dir_mode: '0755'
    - file_mode: '0644'

# What decides which host runs a process that is alone. Programs that supervisor and systemd start import it.
app-leases:
  file.recurse:
    - name: /usr/local/lib/saltern/leases
    - source: salt://_utils/saltern/leases
    - clean: True
    - exclude_pat: __pycache__*
    - user: root
    - group: root
    - dir_mode: '0755'
    - file_mode: '0644'

app-leases-files:
  file.managed:
    - name: /usr/local/lib/saltern/system/files.py
    - source: salt://_utils/saltern/system/files.py
    - makedirs: True
    - mode: '0644'

# Without this, each start of a process would compile the launcher. Python writes lost byte code again when root starts
# a process.
app-launcher-compiled:
  cmd.run:
    - name: >-
        /usr/bin/python3 -ISm compileall -q --invalidation-mode checked-hash
        /usr/local/lib/saltern/launcher /usr/local/lib/saltern/leases /usr/local/lib/saltern/system
    - umask: '022'
    - onchanges:
      - file: app-launcher
      - file: app-leases
      - file: app-leases-files

app-process:
  file.managed:
    - name: /usr/local/lib/saltern/process
    - source: salt://app/files/process.py
    - mode: '0755'
    - require:
      - cmd: app-launcher-compiled
