"""Messages in which a hostile minion claims to be another one."""

import salt.channel.client
import salt.config


class Claim(dict):
    """A message that keeps its id: Salt's own client would write the minion's id into it."""

    def __setitem__(self, key, value):
        if key != "id":
            super().__setitem__(key, value)


def asked_by_hand(daemon, minion_id):
    """Ask the master for another minion's pillar, in a message signed with one minion's keys.

    :param daemon: the minion whose keys are used.
    :param minion_id: whose pillar is asked for.
    """
    opts = salt.config.minion_config(daemon.config_file)
    opts["master_uri"] = f"tcp://127.0.0.1:{opts['master_port']}"
    load = Claim(cmd="_pillar", id=minion_id, saltenv="base", pillarenv="base", grains={}, ver="2")
    with salt.channel.client.ReqChannel.factory(opts) as channel:
        return channel.crypted_transfer_decode_dictentry(load, dictkey="pillar", tries=1, timeout=20)
