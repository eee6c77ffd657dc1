# A rolling release: salt-run state.orchestrate orch.release pillar='{app: tickets, environment: production}'
{% from 'orch/batches.jinja' import batches, begun %}
{% set plan = salt['fleet.release'](pillar) %}

{{ begun('orch-release', plan) }}

{% if not plan.mistakes %}
# On a host that is held it would not come to serve, which is no news to wait for until the migrations have run.
orch-release-movable:
  salt.function:
    - name: release.movable
    - tgt: {{ plan.apps | tojson }}
    - tgt_type: list
    - expect_minions: True
    - arg: [{{ plan.app | tojson }}, {{ plan.build | tojson }}]
    - failhard: True

# What is the same for all comes first, while all of them serve: the build, and once for the fleet its migrations.
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
