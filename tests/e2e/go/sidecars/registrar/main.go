// Announces a CSI driver to the kubelet: a stand-in for node-driver-registrar, whose module cannot be fetched everywhere, with those
// of its flags that the chart gives.
package main

import (
	"context"
	"flag"
	"log"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

const directory = "/registration"

type announcement struct {
	registration.UnimplementedRegistrationServer
	plugin *registration.PluginInfo
}

func (a *announcement) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return a.plugin, nil
}

func (a *announcement) NotifyRegistrationStatus(_ context.Context, status *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	if !status.PluginRegistered {
		log.Fatalf("the kubelet refuses %s: %s", a.plugin.Name, status.Error)
	}
	log.Printf("%s is registered", a.plugin.Name)
	return &registration.RegistrationStatusResponse{}, nil
}

// nameOf asks the driver, which may only be starting, for its name.
func nameOf(socket string) string {
	connection, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	deadline, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	info, err := csi.NewIdentityClient(connection).GetPluginInfo(deadline, &csi.GetPluginInfoRequest{}, grpc.WaitForReady(true))
	if err != nil {
		log.Fatal(err)
	}
	return info.Name
}

func main() {
	socket := flag.String("csi-address", "/csi/csi.sock", "the driver's socket, as seen from here")
	endpoint := flag.String("kubelet-registration-path", "", "the driver's socket, as the kubelet sees it")
	flag.Parse()
	name := nameOf(*socket)
	own := filepath.Join(directory, name+"-reg.sock")
	if err := os.Remove(own); err != nil && !os.IsNotExist(err) {
		log.Fatal(err)
	}
	listener, err := net.Listen("unix", own)
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	registration.RegisterRegistrationServer(server, &announcement{plugin: &registration.PluginInfo{
		Type: registration.CSIPlugin, Name: name, Endpoint: *endpoint, SupportedVersions: []string{"1.0.0"},
	}})
	log.Fatal(server.Serve(listener))
}
