# Prints as JSON how Vagrant reads the Vagrantfile: for each machine its id, environment, hostname, address, box and
# forwarded ports, the ids that bootstrap.sh gets, and the machine's tree.
#
#   SALTERN_ENV=staging ruby lab/vagrant/hosts.rb DIRECTORY

require "json"
require "tmpdir"

# Vagrant warns about a Vagrantfile's Ruby; the warning does not concern us.
$VERBOSE = nil
ENV["VAGRANT_HOME"] ||= Dir.mktmpdir("saltern-vagrant-").tap { |made| at_exit { FileUtils.rm_rf(made) } }
begin
  require "vagrant"
rescue LoadError => error
  abort "Vagrant's library cannot be loaded: #{error.message}; expected Vagrant as a package of Debian"
end

place = ENV.fetch("SALTERN_ENV", "dev")
begin
  # Nothing is left in the tree, where it would belong to the calling user.
  options = { cwd: ARGV.fetch(0), ui_class: Vagrant::UI::Silent, local_data_path: ENV.fetch("VAGRANT_HOME") }
  environment = Vagrant::Environment.new(options)
  found = environment.machine_names.map do |name|
    config = environment.vagrantfile.machine_config(name, nil, nil)[:config].vm
    _, network = config.networks.find { |kind, _| kind == :private_network }
    told = config.provisioners.map { |one| one.config.inline[/bootstrap\.sh --id (\S+)/, 1] }.compact
    tree = config.synced_folders.values.find { |folder| folder[:guestpath] == "/srv/saltern" }&.fetch(:hostpath)
    {
      id: name.to_s, environment: place, hostname: config.hostname, address: network && network[:ip], told: told,
      box: config.box, ports: config.networks.select { |kind, _| kind == :forwarded_port }
        .reject { |_, port| port[:id] == "ssh" }.to_h { |_, port| [port[:guest], port[:host]] },
      tree: tree, own_tree: tree == (Saltern.ephemeral?(place) ? "." : ".lab/vagrant-#{place}/tree"),
    }
  end
  puts JSON.generate(found)
rescue Vagrant::Errors::VagrantError => error
  abort error.message
end
