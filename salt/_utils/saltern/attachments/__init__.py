"""Attachments: a service bound to an app through one config variable.

What differs between services is in ``saltern.services``. Here is what all attachments have in common.
"""
