// When files are read anew, and what becomes of what they hold. Files and what is in them are told
// to the watch; the clock is given.
#include "gateway/certificate_watch.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>
#include <map>
#include <string>

#include "tests/support/temporary_folder.hpp"
#include "tests/support/wait.hpp"

namespace postern::gateway {
namespace {

using namespace std::chrono_literals;
using smtp_proxy::CertificateProblem;

class CertificateWatchTest : public ::testing::Test {
 protected:
  CertificateWatchTest() {
    TlsSource mx1{.mailer = 7,
                  .mailer_name = "mx1",
                  .certificates = {{.certificate = "/mx1.pem", .private_key = "/mx1.key"}},
                  .upstream = {},
                  .seen = {}};
    TlsSource mx2 = mx1;
    mx2.mailer = 8;
    mx2.mailer_name = "mx2";
    mx2.certificates = {{.certificate = "/mx2.pem", .private_key = "/mx2.key"}};
    for (TlsSource* source : {&mx1, &mx2}) {
      for (const auto& file : source->files()) {
        source->seen.push_back(files_[file]);
      }
    }
    watch_.use({mx1, mx2}, std::make_shared<smtp_proxy::TlsContexts>(), now_);
  }

  // A file of another content.
  void write(const char* file) { ++files_[file].inode; }
  void hold(const char* name, bool is_warning, std::string message) {
    problems_[name] = {{.index = 0,
                        .file = CertificateProblem::File::private_key,
                        .is_warning = is_warning,
                        .message = std::move(message)}};
  }
  CertificateWatch::Found look(std::chrono::seconds later = 5s) {
    now_ += later;
    return watch_.look(now_);
  }

  std::map<std::filesystem::path, FileState> files_;
  std::map<std::string, std::vector<CertificateProblem>> problems_;  // by mailer
  std::vector<std::string> loaded_;                                  // mailers, in order
  CertificateWatch::Time now_{1'800'000'000s};
  CertificateWatch watch_{[this](const std::filesystem::path& file) { return files_[file]; },
                          [this](const TlsSource& source, CertificateWatch::Time) {
                            loaded_.push_back(source.mailer_name);
                            return LoadedTls{.tls = {},
                                             .problems = problems_[source.mailer_name],
                                             .upstream_problem = {}};
                          }};
};

using Loads = std::vector<std::string>;

TEST_F(CertificateWatchTest, ReadsNothingWhereNothingChanged) {
  for (int i = 0; i < 10; ++i) {
    const auto found = look();
    EXPECT_EQ(found.contexts, nullptr);
    EXPECT_TRUE(found.renewals.empty());
  }
  EXPECT_EQ(loaded_, Loads());
}

TEST_F(CertificateWatchTest, WaitsUntilTwoLooksAgree) {
  write("/mx1.pem");
  EXPECT_EQ(look().contexts, nullptr);
  write("/mx1.key");
  EXPECT_EQ(look().contexts, nullptr);
  EXPECT_EQ(loaded_, Loads());
  const auto found = look();
  EXPECT_EQ(loaded_, Loads{"mx1"});
  ASSERT_NE(found.contexts, nullptr);
  EXPECT_TRUE(found.contexts->contains(7));
  ASSERT_EQ(found.renewals.size(), 1U);
  EXPECT_EQ(found.renewals[0].mailer, 7U);
  EXPECT_EQ(found.renewals[0].mailer_name, "mx1");
  EXPECT_TRUE(found.renewals[0].was_taken);
  EXPECT_EQ(look().contexts, nullptr);
  EXPECT_EQ(loaded_, Loads{"mx1"});
}

TEST_F(CertificateWatchTest, ForgetsAChangeThatWasTakenBack) {
  const FileState before = files_["/mx1.pem"];
  write("/mx1.pem");
  (void)look();
  files_["/mx1.pem"] = before;
  (void)look();
  write("/mx1.pem");
  (void)look();
  EXPECT_EQ(loaded_, Loads());
}

TEST_F(CertificateWatchTest, KeepsTheOldOneUntilWhatIsThereChangesAgain) {
  hold("mx1", false, "\"/mx1.key\" is not the certificate's");
  write("/mx1.pem");
  (void)look();
  const auto refused = look();
  EXPECT_EQ(refused.contexts, nullptr);
  ASSERT_EQ(refused.renewals.size(), 1U);
  EXPECT_FALSE(refused.renewals[0].was_taken);
  EXPECT_EQ(refused.renewals[0].problems, Loads{"\"/mx1.key\" is not the certificate's"});
  const Loads problem{
      "mailer mx1 goes on with its old certificate: \"/mx1.key\" is not the certificate's"};
  EXPECT_EQ(watch_.problems(), problem);
  (void)look();
  (void)look();
  EXPECT_EQ(loaded_, Loads{"mx1"});  // once
  EXPECT_EQ(watch_.problems(), problem);

  problems_.clear();
  write("/mx1.key");
  (void)look();
  const auto taken = look();
  EXPECT_NE(taken.contexts, nullptr);
  EXPECT_EQ(watch_.problems(), Loads());
}

TEST_F(CertificateWatchTest, TakesTheOthersWhereOneFails) {
  hold("mx1", false, "is encrypted");
  write("/mx1.key");
  write("/mx2.pem");
  (void)look();
  const auto found = look();
  EXPECT_EQ(loaded_, (Loads{"mx1", "mx2"}));
  ASSERT_NE(found.contexts, nullptr);
  EXPECT_FALSE(found.contexts->contains(7));
  EXPECT_TRUE(found.contexts->contains(8));
  EXPECT_EQ(found.renewals.size(), 2U);
}

TEST_F(CertificateWatchTest, PassesWarningsOnWithWhatItTook) {
  hold("mx1", true, "expires soon");
  write("/mx1.pem");
  (void)look();
  const auto found = look();
  EXPECT_NE(found.contexts, nullptr);
  ASSERT_EQ(found.renewals.size(), 1U);
  EXPECT_TRUE(found.renewals[0].was_taken);
  EXPECT_EQ(found.renewals[0].problems, Loads{"expires soon"});
  EXPECT_EQ(watch_.problems(), Loads());
}

TEST_F(CertificateWatchTest, MakesEverythingAnewOnceADay) {
  EXPECT_EQ(look(24h - 10s).contexts, nullptr);
  const auto found = look(10s);
  EXPECT_EQ(loaded_, (Loads{"mx1", "mx2"}));
  EXPECT_NE(found.contexts, nullptr);
  EXPECT_TRUE(found.renewals.empty());  // nothing to tell
  (void)look(23h);
  EXPECT_EQ(loaded_.size(), 2U);
  (void)look(1h);
  EXPECT_EQ(loaded_.size(), 4U);
  (void)look(-3h);  // the clock was set back
  EXPECT_EQ(loaded_.size(), 6U);
}

TEST_F(CertificateWatchTest, DoesNotReadHalfARenewalBecauseADayIsOver) {
  write("/mx1.pem");
  (void)look(24h);
  EXPECT_EQ(loaded_, Loads{"mx2"});
  (void)look();
  EXPECT_EQ(loaded_, (Loads{"mx2", "mx1"}));
}

TEST_F(CertificateWatchTest, TellsOfWhatCannotBeMadeAnew) {
  hold("mx1", false, "cannot be read");
  const auto found = look(24h);
  ASSERT_EQ(found.renewals.size(), 1U);
  EXPECT_FALSE(found.renewals[0].was_taken);
  EXPECT_EQ(watch_.problems().size(), 1U);
  (void)look();
  EXPECT_EQ(loaded_, (Loads{"mx1", "mx2"}));  // not every five seconds
}

TEST_F(CertificateWatchTest, ForgetsItsProblemsAtAReload) {
  hold("mx1", false, "cannot be read");
  (void)look(24h);
  watch_.use({}, std::make_shared<smtp_proxy::TlsContexts>(), now_);
  EXPECT_EQ(watch_.problems(), Loads());
  EXPECT_EQ(look(48h).contexts, nullptr);
}

// --- stat(2) --------------------------------------------------------------------------------------

TEST(LookAt, SeesAChangeOfContentOfModeAndOfWhereALinkLeads) {
  const postern::testing::TemporaryFolder folder;
  const std::filesystem::path first = folder.write("first", "a");
  const std::filesystem::path second = folder.write("second", "a");
  const std::filesystem::path link = folder.path() / "link";
  EXPECT_EQ(look_at(link).error, ENOENT);
  std::filesystem::create_symlink(first, link);
  const FileState before = look_at(link);
  EXPECT_EQ(before.error, 0);
  EXPECT_EQ(before, look_at(first));

  std::filesystem::remove(link);
  std::filesystem::create_symlink(second, link);
  EXPECT_NE(look_at(link), before);

  const FileState state = look_at(first);
  // The kernel's time stamps are coarse.
  EXPECT_TRUE(postern::testing::wait_until("chmod shows", [&] {
    std::filesystem::permissions(first, std::filesystem::perms::owner_read);
    return look_at(first).changed != state.changed;
  }));
  EXPECT_EQ(look_at(first).modified, state.modified);
  std::filesystem::last_write_time(first, std::filesystem::file_time_type::clock::now() + 1h);
  EXPECT_NE(look_at(first).modified, state.modified);
}

}  // namespace
}  // namespace postern::gateway
