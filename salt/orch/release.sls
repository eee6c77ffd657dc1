# Releases an app, a batch of hosts at a time:
#   salt-run state.orchestrate orch.release pillar='{app: tickets, environment: production}'
{% from 'orch/batches.jinja' import batches, begun %}
{% set plan = salt['fleet.release'](pillar) %}

{{ begun('orch-release', plan) }}

{% if not plan.mistakes %}
# Asked before the migrations run: on a host where the app is held, the new release would never serve.
orch-release-movable:
  salt.function:
    - name: release.movable
    - tgt: {{ plan.apps | tojson }}
    - tgt_type: list
    - expect_minions: True
    - arg: [{{ plan.app | tojson }}, {{ plan.build | tojson }}]
    - failhard: True

# First comes what is the same for all hosts, while all of them serve: the build, and its migrations once for the fleet.
orch-release-told-build:
  fleet.told:
    - name: {{ (plan.apps | join(', ') ~ ': build ' ~ plan.build[:12]) | tojson }}

orch-release-build:
  salt.function:
    - name: state.single
    - tgt: {{ plan.apps | tojson }}
    - tgt_type: list
    - expect_minions: True
    - arg: [build.unpacked, {{ plan.app | tojson }}]
    - failhard: True

orch-release-told-migrated:
  fleet.told:
    - name: {{ (plan.apps | first ~ ': migrations of build ' ~ plan.build[:12]) | tojson }}

orch-release-migrated:
  salt.function:
    - name: release.migrate
    - tgt: [{{ plan.apps | first | tojson }}]
    - tgt_type: list
    - expect_minions: True
    - arg: [{{ plan.app | tojson }}, {{ plan.build | tojson }}]
    - failhard: True

orch-release-known:
  salt.function:
    - name: release.migrated
    - tgt: {{ plan.apps | tojson }}
    - tgt_type: list
    - expect_minions: True
    - arg: [{{ plan.app | tojson }}, {{ plan.build | tojson }}]
    - failhard: True

{#- Of the other apps only the time counts in which a host was drained. #}
{% call(batch, name) batches('orch-release', plan, 'salt', verified=[] if plan.proxies else [plan.app]) %}
orch-release-done-{{ name }}:
  salt.state:
    - tgt: {{ batch | tojson }}
    - tgt_type: list
    - expect_minions: True
    - highstate: True
    - require:
      - fleet: orch-release-ready
{% endcall %}
{% endif %}
