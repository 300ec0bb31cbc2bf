// Calls a network's plugins by libcni, the library inside containerd, CRI-O, podman and nerdctl:
// libcni add|check|del NETWORK NETNS, with NETCONFPATH, CNI_PATH and CAP_ARGS (JSON), as its cnitool does.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
)

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(command, network, netns string) error {
	list, err := libcni.LoadConfList(os.Getenv("NETCONFPATH"), network)
	if err != nil {
		return err
	}
	capabilities := map[string]interface{}{}
	if text := os.Getenv("CAP_ARGS"); text != "" {
		if err := json.Unmarshal([]byte(text), &capabilities); err != nil {
			return err
		}
	}
	config := libcni.NewCNIConfig(filepath.SplitList(os.Getenv("CNI_PATH")), nil)
	attachment := &libcni.RuntimeConf{ContainerID: "libcni-1", NetNS: netns, IfName: "eth0", CapabilityArgs: capabilities}
	switch command {
	case "add":
		_, err = config.AddNetworkList(context.Background(), list, attachment)
	case "check":
		err = config.CheckNetworkList(context.Background(), list, attachment)
	case "del":
		err = config.DelNetworkList(context.Background(), list, attachment)
	default:
		err = fmt.Errorf("%s is not a command", command)
	}
	return err
}
