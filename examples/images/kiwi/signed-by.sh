#!/bin/sh
# Run by kiwi for the file of its repository: apt 3, in the root, no longer looks for the key where kiwi puts it.
echo "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg" >>"$1"
