#!/bin/sh
# Installing a package starts no service in an image.
exit 101
