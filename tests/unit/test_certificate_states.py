"""The host's bundle of authorities."""


def test_a_bundle_that_could_not_be_made_is_made_by_the_next_run(certificate_states, dunders, tmp_path):
    directory, bundle, retcodes = tmp_path / "declared", tmp_path / "certs/bundle.crt", [1, 0, 0]
    for path, text in ((directory / "own.crt", "own\n"), (bundle, "public\n")):
        path.parent.mkdir()
        path.write_text(text)

    def update(command, python_shell):
        retcode = retcodes.pop(0)
        if not retcode:
            bundle.write_text("".join(["public\n", *(path.read_text() for path in directory.glob("*.crt"))]))
        return {"retcode": retcode, "stderr": "no space", "stdout": ""}

    dunders(certificate_states, salt={"cmd.run_all": update}, opts={"test": False})

    def ask(function):
        return getattr(certificate_states, function)(str(bundle), str(directory))

    failed = ask("bundled")
    assert (failed["result"], failed["skip_watch"], failed["comment"]) == (
        False,
        True,
        "update-ca-certificates: no space",
    )
    made = ask("bundled")
    assert (made["result"], made["changes"] != {}, bundle.read_text()) == (True, True, "public\nown\n")
    assert ask("bundled")["changes"] == ask("mod_watch")["changes"] == {}
    # An authority that is gone leaves a dangling link, as update-ca-certificates makes them.
    (bundle.parent / "own.pem").symlink_to(directory / "own.crt")
    (directory / "own.crt").unlink()
    assert ask("bundled")["changes"] != {}
    assert (bundle.read_text(), sorted(path.name for path in bundle.parent.iterdir())) == ("public\n", ["bundle.crt"])
    assert ask("bundled")["changes"] == {}
    dunders(certificate_states, opts={"test": True})
    assert (ask("bundled")["result"], ask("mod_watch")["result"]) == (True, None)
