#include "launcher/main/alone.hpp"
#include "launcher/main/commands.hpp"
#include "launcher/trainer/describe_data.hpp"

namespace plasmid {

void add_data(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand("data",
                                         "Shows what a job would find in data files: records, tokens, windows.\n"
                                         "Example: plasmid data cluster/data/lambda_phage.fa.gz --length 4096");
  auto options = std::make_shared<DataOptions>();
  command->add_option("FILE", options->files, "FASTA, JSON Lines or text, with or without .gz")->required();
  command->add_option("--length", options->length, "tokens of a window, as data.sequence_length")
      ->check(CLI::PositiveNumber);
  command
      ->add_option("--set", options->overrides,
                   "field=value: a field of a job's data, such as data.pack=false; may be repeated. Without "
                   "data.tokenizer, FASTA is read as NUCLEOTIDE and all else as BYTE")
      ->type_name("FIELD=VALUE")
      ->allow_extra_args(false);
  command->callback([=, &status] {
    status = alone([&] {
      describe_data(*options);
      return 0;
    });
  });
}

}  // namespace plasmid
