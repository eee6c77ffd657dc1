{% set left = salt['attachment.left']() %}

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
