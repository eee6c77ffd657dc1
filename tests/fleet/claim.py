"""Messages to a master that say who they are of, as a minion that does not behave would write them."""

import salt.channel.client
import salt.config


class Claim(dict):
    """A message whose id stays what it is: Salt's own client writes the minion's into it."""

    def __setitem__(self, key, value):
        if key != "id":
            super().__setitem__(key, value)


def asked_by_hand(daemon, minion_id):
    """Ask the master for a pillar by a message of one's own, with a minion's keys and another's id.

    :param daemon: the minion whose keys are used.
    :param minion_id: whose pillar is asked for.
    """
    opts = salt.config.minion_config(daemon.config_file)
    opts["master_uri"] = f"tcp://127.0.0.1:{opts['master_port']}"
    load = Claim(cmd="_pillar", id=minion_id, saltenv="base", pillarenv="base", grains={}, ver="2")
    with salt.channel.client.ReqChannel.factory(opts) as channel:
        return channel.crypted_transfer_decode_dictentry(load, dictkey="pillar", tries=1, timeout=20)
