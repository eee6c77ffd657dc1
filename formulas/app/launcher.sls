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

# Without this, each start of a process would compile the launcher. Python writes lost byte code again when root starts
# a process.
app-launcher-compiled:
  cmd.run:
    - name: >-
        /usr/bin/python3 -ISm compileall -q --invalidation-mode checked-hash /usr/local/lib/saltern/launcher
    - umask: '022'
    - onchanges:
      - file: app-launcher

app-process:
  file.managed:
    - name: /usr/local/lib/saltern/process
    - source: salt://app/files/process.py
    - mode: '0755'
    - require:
      - cmd: app-launcher-compiled
